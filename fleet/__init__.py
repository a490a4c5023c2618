"""Several engines as one server: replicas on Ray Serve behind one ingress."""
