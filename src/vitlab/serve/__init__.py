"""vitlab serve: models and the page over HTTP; the only package that imports fastapi.

content.py loads what is served, access.py opens the port, server.py starts and stops. A request passes server.py
(slow clients), body.py (its length or chunks), guard.py (access, sizes), app.py (routes), models.py (decoding) and
batching.py (the network).
"""
