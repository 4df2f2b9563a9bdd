"""The parts of the Logit lens page: prompt form, cached results, table and figures."""
