"""What every page of the dashboard shares: the shell, the viewer's model, background work, updates, links."""
