"""Starts the processes of a distributed run, on one machine or several, and ends them together.

    guard.py       runs beside every process, on its machine: passes its lines on, reports its end, ends it when the
                   launcher is gone. Needs nothing but Python
    launchers.py   the command lines that start guards here, over ssh, through mpirun or srun
    job.py         all processes of one attempt: until the workers are done or the first of them dies

Knows nothing of MXNet beyond the names of ps-lite's environment variables.
"""
