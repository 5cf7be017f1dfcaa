"""Everything that knows Proxmox VE: transports, agent commands, guests, tasks, thaw routes, its words."""
