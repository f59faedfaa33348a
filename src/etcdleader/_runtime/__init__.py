"""What differs between event loops and operating systems."""
