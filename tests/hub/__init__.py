"""Publishing a run: what is staged, what is refused, how it arrives, and how it is found again."""
