"""A detector behind a page and an HTTP endpoint: what strangers send is decoded in a process of its own."""
