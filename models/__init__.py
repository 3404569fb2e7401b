"""Networks, losses, ensemble prediction, and the LightningModules that train them."""
