"""Who tools are: tokens that the server makes and keeps as hashes, and certificates that the settings name."""
