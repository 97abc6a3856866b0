"""What tests of this package, and of what is built on it, need: suites, faults and real servers."""
