"""The migration canvas: computes what is drawn of a run, packs it into bytes, and holds the scripts that draw it in a browser."""
