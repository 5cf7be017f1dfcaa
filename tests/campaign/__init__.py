"""Campaigns in virtual time: our real engine in a simulated world where everything may go wrong, thousands of times.

``python -m tests.campaign`` runs one; see there. How the world is made:

    scheduler   virtual time, and processes that can be killed or stopped at any step
    guest       one guest: the lab's model of the agent and the kernel, with a trace of who froze and thawed
    pve         Proxmox VE in front of it: proxies, workers, agent calls, snapshot tasks
    sockets     our client of the agent's socket
    seats       the agent's seat, kept over a window, and how long PVE waits behind it
    seams       what our code holds instead of clocks, sockets, signals, disks and other processes
    world       all of it put together: owner, guard, restarted guard, recovery
    faults      what goes wrong, as a table
    plan        a scenario as data: drawn from a seed, printed, shrunk, run again
    invariants  what must hold afterwards, judged by the guest and not by our own word
"""
