"""What learns of patients: a probability of nodal metastasis for each."""
