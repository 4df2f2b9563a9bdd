"""What all pages share: the frame around a page, the shared model, background work, updates, links, patches of Streamlit."""
