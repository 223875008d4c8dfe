"""Sources that are a graph, frozen or saved: loading them, cutting them, running them in float64."""
