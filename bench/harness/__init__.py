"""What bench/run and bench/edit-loop are made of; bench/README.md explains the method."""
