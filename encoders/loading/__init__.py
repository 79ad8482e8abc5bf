"""Loading of what strangers made, images and checkpoints: nothing that they claim is believed before it is checked."""
