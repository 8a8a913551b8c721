"""Parts of one's own: registering them, writing a package for one, and checking what such a package registers."""
