"""Linear estimators with scikit-learn's manners."""
