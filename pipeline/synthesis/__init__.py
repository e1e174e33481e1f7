"""From planned scenes to finished synthetic scenes."""
