"""What lies here is data of other tests, with tests of its own that only those start."""

collect_ignore_glob = ["*"]
