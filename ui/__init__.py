"""The dashboard's parts, in rooms by page; beside the pages themselves the only code that imports Streamlit."""
