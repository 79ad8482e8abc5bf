"""Loading checkpoints that strangers made: nothing that they claim is believed before it is checked."""
