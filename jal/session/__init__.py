"""Active learning with people: ask for a batch, tell what they said, again and again.

- `Session`: A pool that people label in batches: `ask`, `tell`, `status`, `predict`.
- `Recipe`: How a session trains and chooses: code, so it is given anew at each opening.
- `Batch`: Items that people are asked about.
- `LabelStore`: Batches and answers of one pool; the only one who writes its file.
- `Labels`: What holds of each item after all that was said.
- `Told`: What telling changed.
- `AskedBatch`: Items that were asked for together.
- `decide`: What holds of an item.
- `amounts`: What an item took of each annotator of whom that is known.
- `by_item`: Answers by the item that they are about, in their order.
- `Annotation`: One answer of one annotator about one item.
- `Vocabulary`: What the names in a file stand for: items of a pool, and classes.
- `read_csv`: Reads answers from a CSV file, such as a batch that was filled in.
- `write_csv`: Writes answers to a CSV file that `read_csv` reads; it is whole or not
  there.
- `write_batch`: Writes a CSV file for annotators to fill in; it is whole or not there.
- `label_studio_tasks`: Makes the tasks of a batch, as Label Studio imports them.
- `label_studio_config`: Makes the labelling interface: an image, and one choice among
  the classes.
- `thumbnail`: Draws an array as a small picture that fits into a task.
- `read_label_studio`: Reads answers that Label Studio exported as JSON, JSON-MIN, CSV
  or TSV.
- `read_answers`: Reads answers from a CSV file of jal's, or an export of Label Studio.
- `Status`: How far a session is.
- `Measured`: How good the model was that chose a batch.
- `Annotator`: What one annotator did.
- `status_of`: How far a session is, from its store alone: no pool, no model.
- `spending`: What was spent after how many labels, item by item.
- `said_of`: What was said of some items, in a line each.
- `begin`: Begins a session over files, as `jal init` does.
- `resume`: Goes on with a session that `begin` or `jal init` made.
- `names_of`: How people call the items of a session.
- `write_batch_files`: Writes what annotators need: batch.csv, and tasks.json for Label
  Studio.
- `tell_file`: Takes labels from a filled-in batch.csv, or from an export of Label
  Studio.
- `export_labels`: Writes the labels that hold to a CSV file: index, name, label, by,
  probability.
- `write_report`: Writes a page of HTML: learning curve, spend, classes, the last
  batch's images.
- `previews`: Pictures of some items of a session, for people.
- `read_pool`: Reads what is to be labelled: how people call it, and what a model sees
  of it.
- `image_files`: Lists the images of a folder and of those in it, in the order of their
  names.
- `read_images`: Reads image files as people see them, cut to their middle squares.
- `default_strategy`: What `jal init` chooses by: BALD needs dropout, which no linear
  model has.
- `default_recipe`: How `jal init` trains and chooses: a small CNN of images, an SVM of
  features.
"""

from jal.session._annotations import (
    MODEL,
    SKIPPED,
    Annotation,
    Vocabulary,
    read_csv,
    write_batch,
    write_csv,
)
from jal.session._consensus import amounts, by_item, decide
from jal.session._folder import (
    begin,
    export_labels,
    names_of,
    previews,
    resume,
    tell_file,
    write_batch_files,
    write_report,
)
from jal.session._label_studio import (
    CONTROL,
    label_studio_config,
    label_studio_tasks,
    read_answers,
    read_label_studio,
    thumbnail,
)
from jal.session._pool import (
    IMAGE_SIZE,
    STRATEGIES,
    default_recipe,
    default_strategy,
    image_files,
    read_images,
    read_pool,
)
from jal.session._session import UNITS, Batch, Recipe, Session
from jal.session._status import (
    Annotator,
    Measured,
    Status,
    said_of,
    spending,
    status_of,
)
from jal.session._store import (
    STORE_FILE,
    TEST,
    TRAIN,
    AskedBatch,
    Labels,
    LabelStore,
    Told,
)

# fmt: off
__all__ = [
    "amounts", "Annotation", "Annotator", "AskedBatch", "Batch", "begin", "by_item",
    "CONTROL", "decide", "default_recipe", "default_strategy", "export_labels",
    "image_files", "IMAGE_SIZE", "label_studio_config", "label_studio_tasks", "Labels",
    "LabelStore", "Measured", "MODEL", "names_of", "previews", "read_answers",
    "read_csv", "read_images", "read_label_studio", "read_pool", "Recipe", "resume",
    "said_of", "Session", "SKIPPED", "spending", "Status", "status_of", "STORE_FILE",
    "STRATEGIES", "tell_file", "TEST", "thumbnail", "Told", "TRAIN", "UNITS",
    "Vocabulary", "write_batch", "write_batch_files", "write_csv", "write_report",
]
# fmt: on
