"""What a job is made of on disk: manifest, source, values, blobs; opened by the ranks."""
