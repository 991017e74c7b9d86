"""A detector behind a web page and an HTTP endpoint; uploads are decoded in a separate process."""
