"""What everything else stands on: errors, files, the data model, model.json, base types of params."""
