"""The Django project: wiring, processes and the commands that span rooms. Imported by nobody."""
