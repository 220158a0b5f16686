"""What goes into `exports/<run>/` as it is: programs and pages that need nothing of this project."""
