"""Web pages and desktops of running jobs: from the address that a user of UCloud gets to the application's port and back."""
