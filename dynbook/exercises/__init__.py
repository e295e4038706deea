"""What the exercises ask: one module a chapter, ``chapter_3``, loaded when it is first needed."""
