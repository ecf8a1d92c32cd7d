"""The imperative shell: processes, files, time, state. Imports core, never pytest."""
