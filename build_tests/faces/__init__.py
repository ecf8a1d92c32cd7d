"""What people read: the command line and its views. Nothing below imports it."""
