-- A workflow is a job with steps on several hosts. "plan" has them, as JSON; each step is a job of its own, whose "parent"
-- is the workflow, and which is the step of number "step". No step is ordered twice.
ALTER TABLE job ADD COLUMN plan TEXT;
ALTER TABLE job ADD COLUMN parent INTEGER REFERENCES job (id) ON DELETE SET NULL;
ALTER TABLE job ADD COLUMN step INTEGER;
CREATE UNIQUE INDEX job_step ON job (parent, step) WHERE parent IS NOT NULL;

-- Whether the item's master target is to protect it by its policy here: since one was assigned to it, or since it was taken
-- by what a policy here says. Any other is protected by what its master target says.
ALTER TABLE item ADD COLUMN follows INTEGER NOT NULL DEFAULT 0;
