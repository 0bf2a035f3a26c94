"""A Hugging Face Hub on loopback for tests, standard library only: `python -m tests.hub PORT DIR`.

`store` owns the repos on disk, `server` the HTTP, `fixture` the pytest fixture `hub`, `repos` what is put into DIR.
Read-only so far: uploads will be new routes in `server` and new methods of `store.Repo`.
"""
