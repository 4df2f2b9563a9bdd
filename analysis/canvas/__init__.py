"""The migration canvas: computes what to draw of a run, packs it into bytes, and contains the scripts that draw it."""
