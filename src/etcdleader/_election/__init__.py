"""One candidacy over leases, and views of an election's queue."""
