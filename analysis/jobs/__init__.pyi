from .job import Job as Job
from .job import JobStatus as JobStatus
