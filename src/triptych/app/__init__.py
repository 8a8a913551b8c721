"""The app: a page in a browser that sends pictures, and a server that answers with maps."""
