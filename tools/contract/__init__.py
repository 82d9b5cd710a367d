"""What is made of the descriptors for readers: OpenAPI documents and pages, and the check that a release's contract is kept."""
