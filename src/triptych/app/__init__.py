"""The network in a browser: a page that sends pictures, and the server that answers with maps."""
