"""What each command takes and prints; what it computes is elsewhere, and imported when it runs."""
