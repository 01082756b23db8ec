"""What the tests of Kubernetes share: a double of its API, its objects, and its schemas."""
