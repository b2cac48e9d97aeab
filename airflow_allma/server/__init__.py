"""What runs in Airflow's API server: the pages and their API, events for waiting flows, and the waker.

Only the API server imports these modules, except ``registration``, which every process that loads plugins
imports and which costs nothing. They use Airflow's database models, which are not declared stable for
plugins: when one is missing, the routes answer 503 and waiting tasks go on at their deadlines; nothing else
breaks. The pages read the database in one module, ``run_database``.
"""
