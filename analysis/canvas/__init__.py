"""The migration canvas: what it draws of a run, the bytes in which that travels to a browser, and the scripts that draw it."""
