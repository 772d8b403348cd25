"""Logs that py123d converted (nuPlan, PandaSet, …) as clips and labels. Reads its Arrow files, not its code."""
