"""What experiments look at: nets, attacks, and how a manipulation is measured."""
