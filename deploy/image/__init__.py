"""What the container image adds to the package: the document's stubs, and Docker's health check."""
