"""``python data.py PROBLEM_TYPE`` writes an example's tables, from a data set that scikit-learn ships."""

import sys

from sklearn.datasets import load_breast_cancer, load_diabetes

load = {"classification": load_breast_cancer, "regression": load_diabetes}[sys.argv[1]]
patients = load(as_frame=True).frame
patients.insert(0, "patient", range(len(patients)))
patients.to_csv("train.csv", index=False)
patients.sample(100, random_state=0).drop(columns="target").to_csv("eval.csv", index=False)
