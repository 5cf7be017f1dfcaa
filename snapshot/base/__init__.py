"""What everything stands on: time, processes, files, streams, signals. It knows nothing of Proxmox VE."""
