"""What `vitlab look` writes: pictures with sentences in the run's own numbers, a page of them, a model card.

gather: a run at hand, its answers to all test images; parts: what a report is made of; seen, learned, judged, attended,
inside, endured: its sections; answer: what stands first; page, card: HTML and Markdown; studies: the report of a study;
write: the files.
"""
