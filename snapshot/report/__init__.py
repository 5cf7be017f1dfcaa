"""Reports: human text, JSON, the history and the HTML page."""
