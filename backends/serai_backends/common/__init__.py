"""What more than one backend is made of: durable steps on files, the board of news, logs in the jobs' folders, users of drives.

Knows no backend; files.py and beneath.py use the standard library only, because supervisors start with them.
"""
