"""Many runs trained together, each as it would go alone."""
