"""Loading of images that nobody vouches for: bounded downloads, opens, and decoding in a process of its own."""
